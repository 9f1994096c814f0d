"""Reading and writing scans, point lists with regions, and tables; everything is in LPS mm inside the library."""
