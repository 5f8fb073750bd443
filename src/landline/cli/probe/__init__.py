"""``landline probe``: what happens when somebody connects, measured, judged and drawn.

facts.py     what was found, as plain values
measure.py   one probe: it connects, and collects them; tcp.py: those of the system's TCP
verdict.py   what they mean: status, one line, checks, advice
as_json.py   the values for programs: a schema that stays
story.py     the words that all pictures share
terminal.py  the picture in a terminal; svg.py and page.py: as files
run.py       round after round of all that
"""
