"""From the files of a user to what the net says of each image.

Images:

- input_files: which images and videos a command is to look at
- overlapped_map: reads the next file, draws and writes the last ones while the net works
- pyramid: the crops of one image that go through the net (section 3.3), and their maps' way back
- engines: what runs the net
- looks: single passes over parts of an image, also turned or mirrored, and their joint answer
- hand_pose: the pose of a hand in one image, which users get
- presence: the scores from which an image shows a hand
- proposals: where in a whole image hands may be
- scenes: finds every hand of an image with looks at the proposals

Videos:

- video_reading: the frames of video files and animated images, and cameras
- video_writing: frames as a video file
- tracking: follows hands from frame to frame
- smoothing: the filter that steadies their keypoints

Results:

- result_paths: where the results of each file go
- jobs: a file to look at, and which files its results become
- reports: the files that `mcc_caffe.infer` writes, and the mark by which it knows them again
- pose_reports: the JSON file of an image, and what the other formats get of a pose
- video_reports: the JSON file of a video
- scene_files: COCO files of boxes around hands
- formats: the results in other systems' formats
"""
