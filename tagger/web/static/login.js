// The form of the password: says what was wrong, and leads on whoever is logged in already. A link from another site
// brings no cookie along, so the server cannot know at once.

import { t, translate } from "./lang.js";

translate();
document.title = t("login.title");
const problem = document.getElementById("problem");
const said = { "?wrong": "login.wrong", "?blocked": "login.blocked" }[location.search];
if (said) {
  problem.textContent = t(said);
  problem.hidden = false;
} else {
  const answer = await fetch("api/me", { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) location.replace("./");
}
