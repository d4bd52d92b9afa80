"""The peers of `bench queue`: for each, its environment (`NAME.txt`) and the program driven in it (`NAME.py`)."""
