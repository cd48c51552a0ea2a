"""What the workflows run. A regular package, so that no other folder of this name on sys.path adds modules to it."""
