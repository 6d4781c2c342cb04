"""From the files of a user to what the net says of each picture.

- input_files: which images and videos a command is to look at, and where their results go
- video: video files and cameras, frame by frame
- overlapped_map: reads the next file and writes the last one while the net works
- pyramid: the crops of one image that go through the net (3.3), and the way back of their maps
- engines: what runs the net
"""
