// The form of the password: says what was wrong, and leads on whoever is logged in already. A link from another site
// brings no cookie along, so the server cannot know at once.

const WORDS = {
  wrong: "That is not the password.",
  blocked: "Too many wrong passwords. Wait a minute, then try again.",
};
const problem = document.getElementById("problem");
const words = WORDS[location.search.slice(1)];
if (words) {
  problem.textContent = words;
  problem.hidden = false;
} else {
  const answer = await fetch("api/health", { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) location.replace("./");
}
