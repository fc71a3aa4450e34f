"""From the labels of an open set to the sentences that CLIP embeds. No import of torch here."""

from __future__ import annotations

_SEEN = (
    "a photo",
    "a good photo",
    "a bad photo",
    "a bright photo",
    "a dark photo",
    "a cropped photo",
    "a blurry photo",
)
# Our own, of the kind that RAM's labels were embedded with: averaged over, no wording counts alone.
TEMPLATES = tuple(f"{seen} of {which} {{}}." for seen in _SEEN for which in ("{article}", "the"))


def label_prompts(label: str, templates: tuple[str, ...] = TEMPLATES) -> list[str]:
    """The sentences of a label, one per template.

    A template holds ``{}`` for the label and may hold ``{article}`` for "a" or "an". Underscores of a label become
    spaces, a slash "or", capitals small letters, and a dot at its end goes; a sentence that begins with "a" or "the" is
    led by "This is". Upstream does the same (``ram/utils/openset_utils.py`` in xinyu1205/recognize-anything), but takes
    the article from the label before its capitals are gone, and so says "a Apple".

    >>> label_prompts("Traffic_light", ("a photo of {article} {}.", "one {}.")), label_prompts("ant", ("{article} {}",))
    (['This is a photo of a traffic light.', 'one traffic light.'], ['This is an ant'])
    """
    name = label.replace("_", " ").replace("/", " or ").lower().rstrip(".")
    article = "an" if name[:1] in set("aeiou") else "a"
    texts = [template.format(name, article=article) for template in templates]
    return [f"This is {text}" if text.startswith(("a", "the")) else text for text in texts]
