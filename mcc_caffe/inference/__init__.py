"""From the files of a user to what the net says of each picture.

- input_files: which images and videos a command is to look at, and where their results go
- video: video files and cameras, frame by frame
- reports: the JSON files of images and videos
- overlapped_map: reads the next file and writes the last one while the net works
- pyramid: the crops of one image that go through the net (section 3.3), and their maps' way back
- engines: what runs the net
"""
