"""Live video out to viewers (WHEP): packets passed through where their codec allows it, else encoded once for all."""
