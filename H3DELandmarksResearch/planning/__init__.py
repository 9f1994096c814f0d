"""From a folder of scans and point lists to a training configuration: cases, rules, plan."""
