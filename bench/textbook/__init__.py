"""The peer of `bench api` and `bench sse`: the same job API, written the way the manuals of its libraries have it.

`app.py` runs in an environment of its own (`bench/peers/textbook.txt`) and imports nothing of the project.
"""
