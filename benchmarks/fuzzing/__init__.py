"""Every reader of files, given damaged and hostile ones: ``make fuzz``.

`seeds` makes small valid files with the helpers of the tests, `mutations` changes them, and `readers` says what reads
each kind. `campaign` does that in child processes, so that a crash, a hang or a lack of memory costs one input.
"""
