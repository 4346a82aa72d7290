"""How processes are started, watched from inside, signalled and limited."""
