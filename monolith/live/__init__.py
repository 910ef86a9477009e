"""Live video that publishers push to the program: packets as they were encoded, for whoever follows or watches."""
