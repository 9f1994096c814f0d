"""One page that tells of many scans: what was found in a cohort, or how good predictions are.

folder of `detect`  ->  cohort (what its files say)  ->  thumbnails, cohort_sections  ->  page  ->  one HTML file
predictions, truth  ->  evaluation_sections, trust_sections, comparison_section        ->  page

`shapes` lays the subjects of a cohort upon their mean; `plots` draws every figure in the one style of
`H3DELandmarksResearch.figures`. The page needs nothing from outside, and everything that comes from files is escaped.
"""
