"""Tables for other programs."""

import csv
import io

from qexp.utils.formats import comma_separated, latex, markdown


def test_markdown_escapes_what_a_table_cannot_hold() -> None:
    text = markdown(["a", "b"], [["x|y", "1*"]], ["b"])
    assert text == "| a | b |\n| --- | ---: |\n| x\\|y | 1\\* |"


def test_csv_gives_back_what_was_put_in() -> None:
    rows = [["a,b", 'say "x"', "two\nlines"], ["", "ü", "="]]
    text = comma_separated(["one", "two,", "three"], rows)
    assert list(csv.reader(io.StringIO(text))) == [["one", "two,", "three"], *rows]
    assert comma_separated(["a", "b"], [[None, 0.1]]) == "a,b\n,0.1"


def test_latex_escapes_every_sign_that_it_reads_otherwise() -> None:
    text = latex(["model_name", "top-1"], [["a&b_c#d%e$f{g}~^\\", "-0.50 ± 0.25"], ["ste", "98.61 %"]], ["top-1"])
    assert text.split("\n") == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model\_name & top-1 \\",
        r"\midrule",
        r"a\&b\_c\#d\%e\$f\{g\}\textasciitilde{}\textasciicircum{}\textbackslash{} & $-$0.50 $\pm$ 0.25 \\",
        r"ste & 98.61 \% \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
