"""`decisions` times what it says it times."""

import pytest

from benchmarks import decisions


@pytest.mark.parametrize("count", decisions.QUESTIONS)
def test_each_answer_is_from_where_it_should_be(count):
    made, requests = decisions.contestants(count)
    decisions.check(made, requests)
    assert all(len(request["questions"]) == count for request in requests.values())
    with pytest.raises(RuntimeError, match="cascade"):
        decisions.check(made, {**requests, "cascade": requests["escalated"]})


def test_figures_are_ratios_to_the_bare_model_of_as_many_questions():
    seconds = {f"{kind}.{count}": [2.0 * count] for kind in decisions.KINDS for count in decisions.QUESTIONS}
    seconds |= {"fake.1": [1.0], "fake.5": [2.0]}
    figures = decisions.compare(seconds, "")
    assert (figures["local_vs_fake"], figures["cascade_vs_fake.5"]) == (2.0, 5.0)
    (table,) = decisions.tables(figures)
    assert [len(row) for row in table.rows] == [len(table.columns)] * 4
