"""The check of a rewrite against its source: what is invented refuses it, what is lost is only measured.

The gate in a minute. No rule knows verbs, synonyms or topics; the words that it knows are of closed classes (numerals,
units, months, pronouns, auxiliaries, words for relatives) or name what a prompt is made of (its reader, its answer) and
what a verdict is made of (right, wrong, fault).

| A rewrite is refused as | where |
|---|---|
| `empty`, `too_long`, `copied` | it says nothing, more than was told, or all of it again |
| `unrelated` | a sentence shares no word with the source: it is made up, or in another language |
| `number_added` | it has a number, amount, date or time that the source has not, by value (`3,500` = `三千五`), and that does not follow: no sum, difference, product, share or span of two of its numbers, no rounding that says so, no count of a list; or counts with it what the source counts otherwise; or has it where the source, among the same words, has another number that the rewrite lacks |
| `name_added` | it has a name that the source has not: a capital, or a word of no dictionary |
| `role_changed` | it gives a role to another name (`the chef, Marco`), or has a relative whom the source has not |
| `instruction` | it speaks to a model or its reader: a chat template's mark, a title or field of a reply, an order, `please`, `you` outside of what somebody says |
| `verdict` | it says who is right, wrong or at fault, and nobody is said to say so; or what somebody must, should or may do, and the source tells no such duty |
| `party_swapped`, `party_mixed` | one party does to the other what only the other did to them, or a name does what only another name did (the same verb and next word); it says `I` and `the narrator` at once |

What no form shows is left to a model (`nli=`, `judge=`): a role in another word (`the owner` for `the agent`), a deed
told with another verb of another name, two numbers that change places, a verdict in a plain statement (`the money
belongs to her`), a Chinese given name without a surname, Chinese clauses without a subject.
"""  # noqa: E501 - a table has one line a row

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
