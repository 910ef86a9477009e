"""The soak of live video: an hour's worth of publishers, viewers and attackers against the whole program."""
