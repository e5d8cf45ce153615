"""Incremental evaluation: what a few changed bases change in a network, from the activations of the reference window.

`trace` turns a network into a graph, `rules` says of each node how a changed span of positions goes through it, `spans`
works out the spans of one place of change, and `executor` runs the reference window once and every allele in part.
`fusion` and `chains` spare whole windows products and memory.
"""
