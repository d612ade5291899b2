"""From what a language model wrote to one of the labels it was offered, or to none.

`match_label` reads a text, `label_probabilities` reads token log-probabilities. Both only ever return labels that were
offered. Pure Python; `LabelParser` and `ChatClassifier` share it.

What never matters: case, width, white space, quotes, emphasis, a bullet, a final stop; underscores, hyphens and blanks
are one, unless that makes two labels equal. A sign (-1, <=50K, A*, C#, .NET) belongs to its label. Reasoning is dropped
first: what stands between its tags, before a closing tag, or outside the final channel; without an end it leaves
nothing. Then a label is read

1. where the whole text is the label, or a list of labels with their values of which one is affirmed ("spam: no, ham:
   yes", a checklist);
2. where it is the value of the last mark: "Label: x", "The category is x", `<answer>x</answer>`, a JSON key `label`,
   or in JSON the one label that is a key with a value like true. A last mark that names no label is an answer, too;
3. without a mark, at the beginning of the first line, of a last line that stands by itself, or behind a few phrases
   ("It is x", "I would say x"). No other label may stand there, nor further on, but to be denied ("not y").

What follows a label may be nothing, a value like yes, or a reason: three words or more, of which the first five do not
deny, behind a dash, a colon, a comma, a bracket, a stop or on the next line. Everything else is None: a question, a
denial, a correction that names another label, a label inside any other sentence or quotation. The words that mark an
answer are few and stand in `text.py`: an unknown one makes a miss. Words that deny only ever take a label away.
"""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
