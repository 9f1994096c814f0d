"""Agreement of readers and models: the statistics, and which comparisons `evaluate` makes of them.

points of model and readers  ->  report: model against readers, reader against reader and against himself
two arrays of positions      ->  statistics: MRE, bias, SD, limits of agreement, Dahlberg, ICC(2,1), with intervals
"""
