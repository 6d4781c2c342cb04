"""The columns of the vertex arrays (N, VERTEX_FLOATS) that the renderer draws.

All vertices have a position, a normal and their place on the mesh at rest, which the patterns of
skin and cloth are fixed to. Columns 9 to 15 mean one thing for the skin of the hand and the arm,
and another for plain surfaces (bodies and objects).
"""

VERTEX_FLOATS = 16

# All vertices
POSITION = slice(0, 3)
NORMAL = slice(3, 6)
REST = slice(6, 9)  # place on the mesh at rest
OPENNESS = 12  # share of the surrounding light that arrives, 0 to 1

# Skin
PALM = 9  # 0 on the back of the hand, 1 on the palm
HAND = 10  # share of the skin that the bones from wrist to fingertips carry
ARM = 11  # place along the arm: 0 wrist, 1 elbow, 2 shoulder
JOINT_PHASE = 13  # 1, 2, 3 at a finger's joints, 0 elsewhere
NAIL_ACROSS = 14  # -1 to 1 across the nail
NAIL_ALONG = 15  # -1 to 1 along the nail

# Plain surfaces
COLOUR = slice(9, 12)  # linear RGB
TEXTURE = slice(13, 15)  # u, v
GLOSS = 15

# The same for moderngl: the format, and the shaders' names for its parts.
LAYOUT = ("3f 3f 3f 4f 3f", "position", "normal", "rest", "paint", "detail")
TRUTH_LAYOUT = ("3f 24x 4x 1f 8x 12x", "position", "hand")
SHADOW_LAYOUT = ("3f 52x", "position")
