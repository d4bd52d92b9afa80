"""The peers of `bench queue`: for each, its environment (`NAME.txt`) and the program driven in it (`NAME.py`).

`textbook.txt` is the environment of `bench/textbook`, the peer of `bench api` and `bench sse`.
"""
