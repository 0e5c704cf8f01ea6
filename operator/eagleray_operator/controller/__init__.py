"""The level-triggered engine: a cache, a work queue, and the carrying out of plans."""
