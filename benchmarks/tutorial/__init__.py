"""The tutorial's recipe: what it leaves open, searched; what it claims, measured."""
