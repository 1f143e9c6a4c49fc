"""Two model cards in one: figures measured anew replace the old ones, what a person wrote stays.

Each `##` section of a generated card lies between two comments that nobody sees on the page, the first with
a hash of what was generated. Pushing again writes these blocks anew, with two exceptions: text outside the
comments is a person's and stays, and so does a block without figures that a person has changed, as long as
the facts it may hold (classes, sizes) are the same. Knows nothing of networks or of what the sections say.
"""

from __future__ import annotations

import hashlib
import re

import yaml

BEGIN = re.compile(r"<!-- generated (\w{12}): .*? -->\n")
END = "<!-- end of generated part -->"
# No figures in these: a person's words are kept there even inside the comments, in the second set while what
# we would write is as it was.
PROSE = {"Limits and intended use"}
FACTUAL_PROSE = {"", "Use"}
# What our cards put into these lists; on the next weights' card it is written anew where it holds.
GENERATED = {"tags": {"timm", "transformers"}, "datasets": {"cifar10"}, "metrics": {"accuracy"}}
KEPT = ("license", "license_name", "license_link")  # a person's choice, not ours


def marked(card: str) -> str:
    """A rendered card with the comments around each section's text."""
    front, body = split_front_matter(card)
    return front + "".join(heading + block(text) for heading, text in sections(body))


def merged(remote: str, new: str, *, same_weights: bool = False) -> str:
    """The `new` card with what a person added to or changed in the `remote` one.

    A section that a person added stays behind the section it stood behind.

    Args:
        same_weights: the weights on the Hub stay as they are, and so do the results measured on them where
            the new card has none.
    """
    remote_front, remote_body = split_front_matter(remote)
    new_front, new_body = split_front_matter(new)
    theirs, ours = joined(sections(remote_body)), joined(sections(new_body))
    kept = {h: text if same_weights else by_hand(text) for h, text in theirs.items() if h not in ours}
    kept = {h: text for h, text in kept.items() if text.strip() or not BEGIN.search(theirs[h])}
    order = list(ours)
    for heading in kept:
        before = list(theirs)[: list(theirs).index(heading)]
        place = max((order.index(h) + 1 for h in before if h in order), default=len(order))
        order.insert(place, heading)
    texts = {h: merged_section(h, theirs.get(h), text) for h, text in ours.items()} | kept
    if same_weights and any(BEGIN.search(text) for text in kept.values()):
        # Who measured these weights also knew what to say of them.
        texts |= {h: text for h, text in theirs.items() if title(h) in PROSE | FACTUAL_PROSE - {"Use"}}
    return merged_front_matter(remote_front, new_front, same_weights) + "".join(h + texts[h] for h in order)


def merged_section(heading: str, remote: str | None, new: str) -> str:
    """One section: `new` with a person's text around it, or the person's block where it has no figures."""
    found = remote and BEGIN.search(remote)
    if not found and not (remote or "").strip():
        return new
    if not found:
        is_theirs = title(heading) in PROSE | FACTUAL_PROSE
        return remote if is_theirs else new.rstrip("\n") + "\n\n" + remote.strip("\n") + "\n\n"
    end = remote.find(END, found.end())
    end = len(remote) if end < 0 else end
    page_title = title_line(remote[: found.start()])
    is_changed = found.group(1) != hash_of(page_title + remote[found.end() : end])
    says_the_same = found.group(1) == BEGIN.search(new).group(1)
    if is_changed and (title(heading) in PROSE or (title(heading) in FACTUAL_PROSE and says_the_same)):
        return remote
    before = remote[: found.start()].replace(page_title, "", 1).strip("\n")
    after = remote[end + len(END) :].strip("\n")
    added_before, added_after = (f"\n{text}\n" if text else "" for text in (before, after))
    return added_before + new.rstrip("\n") + "\n" + added_after + "\n"


def merged_front_matter(remote: str, new: str, same_weights: bool) -> str:
    """YAML front matter: the new fields, a person's further fields, a person's licence and list entries."""
    theirs, ours = parse_front_matter(remote), parse_front_matter(new)
    generated = set() if same_weights else {"model-index", "base_model", "base_model_relation"}
    added = {k: v for k, v in theirs.items() if k not in generated | ours.keys() and v is not None}
    fields = ours | added
    fields |= {key: theirs[key] for key in KEPT if theirs.get(key)}
    for key, stale in GENERATED.items():
        if isinstance(theirs.get(key), list):
            stays = [entry for entry in map(str, theirs[key]) if same_weights or entry not in stale]
            fields[key] = list(dict.fromkeys([*ours.get(key, []), *stays]))
    fields = {key: value for key, value in fields.items() if value != []}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def parse_front_matter(front: str) -> dict:
    """The fields between the two `---` lines; none where they are not YAML."""
    try:
        fields = yaml.safe_load(front.strip().removeprefix("---").removesuffix("---"))
    except yaml.YAMLError:
        return {}
    return fields if isinstance(fields, dict) else {}


def split_front_matter(card: str) -> tuple[str, str]:
    """(front matter with its `---` lines, the rest)"""
    card = card.replace("\r\n", "\n")
    found = re.match(r"---\n.*?\n---[ ]*\n", card, re.DOTALL)
    return (found.group(), card[found.end() :]) if found else ("", card)


def sections(body: str) -> list[tuple[str, str]]:
    """[(heading line, text up to the next)], the first with the heading "" and all before the first `##`."""
    parts, fenced = [["", ""]], False
    for line in body.splitlines(keepends=True):
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            parts.append([line, ""])
        else:
            parts[-1][1] += line
    return [(heading, text) for heading, text in parts]


def joined(parts: list[tuple[str, str]]) -> dict[str, str]:
    """{heading: text}; a second section of the same heading stays within the first one's text."""
    texts: dict[str, str] = {}
    for heading, text in parts:
        texts[heading] = texts[heading] + heading + text if heading in texts else text
    return texts


def title(heading: str) -> str:
    """The words of a heading line."""
    return heading.removeprefix("## ").strip()


def title_line(text: str) -> str:
    """The page's title among some lines, "" where it is not there."""
    found = re.search(r"^# .*\n", text, re.MULTILINE)
    return found.group() if found else ""


def block(text: str) -> str:
    """`text` between the two comments, the page's title before them but in the hash."""
    text = text.strip("\n") + "\n"
    page_title = title_line(text) if text.startswith("# ") else ""
    rest = text.removeprefix(page_title).strip("\n") + "\n"
    note = "written anew by each push; add text outside these two comments"
    begin = f"<!-- generated {hash_of(page_title + rest)}: {note} -->"
    return f"\n{page_title}{begin}\n{rest}{END}\n\n"


def hash_of(text: str) -> str:
    """Twelve hexadecimal digits of a text, blank lines around it disregarded."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def by_hand(text: str) -> str:
    """What a person wrote in a section that is generated no more."""
    found = BEGIN.search(text)
    if not found:
        return text
    end = text.find(END, found.end())
    return text[: found.start()] + text[end + len(END) :] if end >= 0 else ""
