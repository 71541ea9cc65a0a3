"""What a cell of a table holds that is no number: the words for a missing value, and what dates and the like look like.

Reading a table and writing the lines that read it go by the same patterns.
"""

# what pandas takes as missing; see pandas.read_csv, na_values
MISSING = (
    *("na", "n/a", "nan", "null", "none", "<na>", "#na", "#n/a", "#n/a n/a"),
    *("+nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
"""The words for a missing value, in small letters; an empty cell is missing as well."""

DATES = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4}))([T ].*)?",
    r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?",
)
"""The patterns of a date and of a time of day."""

FORMATTED = (
    r"[-+]?\d+,\d+([eE][-+]?\d+)?",
    r"[-+]?\d{1,3}([ '’.,\u00a0\u202f]\d{3})+([.,]\d+)?",
    r"[-+]?\d+(\.\d+)?",
)
"""The patterns of numbers that are written for people, such as 1,5 or 1.234.567, without the SIGNS around them."""

SIGNS = "%$€£¥ \u00a0"
"""What may stand around a formatted number."""

LENGTH = 100
"""So many characters of a cell are looked at, and so many cells of a column."""
