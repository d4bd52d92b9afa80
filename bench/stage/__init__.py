"""What `bench api` and `bench sse` stand on: the servers, who asks them, and what they use.

Apart from both, so that the processes in here load nothing else.
"""
