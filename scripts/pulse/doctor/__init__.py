"""What `pulse doctor` looks at: the machine, the servers, and the studio that runs on them."""
