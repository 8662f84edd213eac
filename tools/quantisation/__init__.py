"""Static int8 graphs: which nodes, how, and whether their answers are accepted."""
