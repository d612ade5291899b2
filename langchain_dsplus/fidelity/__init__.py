"""The check of a rewrite against its source: what is invented refuses it, what is lost is only measured.

The gate in a minute. No rule knows verbs, synonyms or topics; the words that rules know are of closed classes (numerals,
units, months, pronouns, auxiliaries, words for relatives). Whether a sentence tells, speaks to its reader or judges, a
small linear model says that learned it from sentences (`voices`).

| A rewrite is refused as | when |
|---|---|
| `empty`, `too_long`, `copied` | it says nothing, more than was told, or all of it again |
| `unrelated` | a sentence shares no word with the source: it is made up, or in another language |
| `number_added` | it has a number, amount, date or time that the source has not, by value (`3,500` = `三千五`), and that does not follow: no sum, difference, product, share or span of two of its numbers, no rounding that says so, no count of a list; or counts with it what the source counts otherwise; or has it where the source, among the same words, has another number that the rewrite lacks |
| `name_added` | it has a name that the source has not: a capital, or a word of no dictionary |
| `role_changed` | it gives a role to another name (`the chef, Marco`), or has a relative whom the source has not |
| `instruction` | a sentence sounds as if it spoke to its reader or a model: what to decide, answer, believe or leave out; or it has a form that only a model can be meant by, a title or field of a reply, a chat template's mark |
| `verdict` | a word of right and wrong that nobody is said to say; or a sentence sounds like a verdict, the sooner, the more of its words the source does not have |
| `party_swapped`, `party_mixed` | one party does to the other what only the other did to them, or a name does what only another name did (the same verb and next word); it says `I` and `the narrator` at once |

What no form shows is left to a model (`nli=`, `judge=`): a role in another word (`the owner` for `the agent`), a deed
told with another verb of another name, two numbers that change places, a Chinese given name without a surname, Chinese
clauses without a subject.
"""  # noqa: E501 - a table has one line a row

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
