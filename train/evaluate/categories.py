"""Categories of labels: ESC-50's five, and one for all other labels. Results of each: `metrics.per_category`."""

ESC50_CATEGORIES = {
    "animals": "dog rooster pig cow frog cat hen insects sheep crow",
    "natural soundscapes and water": "rain sea_waves crackling_fire crickets chirping_birds water_drops wind "
    "pouring_water toilet_flush thunderstorm",
    "human non-speech": "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
    "drinking_sipping",
    "interior/domestic": "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking",
    "exterior/urban": "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw",
}
"""ESC-50's five major categories and their ten labels each, in the order of its targets (Piczak, ACM MM 2015)."""
ESC50_LABELS = tuple(" ".join(ESC50_CATEGORIES.values()).split())
OWN_CATEGORY = "own labels"
"""The category of labels that are not ESC-50's."""


def categories(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Each label's category: ESC-50's if its fifty labels come first, in their order; `OWN_CATEGORY` for all others."""
    if labels[: len(ESC50_LABELS)] != ESC50_LABELS:
        return (OWN_CATEGORY,) * len(labels)
    official = (category for category, names in ESC50_CATEGORIES.items() for _ in names.split())
    return (*official, *[OWN_CATEGORY] * (len(labels) - len(ESC50_LABELS)))
