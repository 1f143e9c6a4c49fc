"""What every tab uses.

- `page.text(gr.Button(), value="look")` (page.py): a component's text, now and after the switch.
- `raise refuse(language, "look_first")`, `raise refuse(language, error) from error` (errors.py): a toast;
  `alert(explain(language, error))`: the same inside the page. An error's `code` is the key of its text.
- `render("classify/result.html", language=language, shown=shown)` (html.py): a template in the tab's folder.
  It has `say`, `name_of`, `|percent`, `|data_url`; `{% from "shared/macros.html" import figure, notice,
  alert, table %}` are functions of html.py too. Values are escaped, except markup,
  which is what these and chart.py return: never join markup and strings with `+`.
- `lines([Line("A", values)], title, x_title)`, `bars`, `heat`, `decades`, or `svg` with `text` (chart.py).
- `say(language, "key", **facts)`, `short`, `memory`, `percent` (text.py): words and numbers.
"""
