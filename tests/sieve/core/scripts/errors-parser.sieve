# 1: too many arguments
frop "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22" "23" "24" "25" "26" "27" "28" "29" "30" "31" "32";
# 2 and 3: garbage
friep $$$;
# 4: blocks
if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { if true { stop; } } } } } } } } } } } } } } } } } } } } } } } } } } } } } } } } }
# 5: tests
if not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not not true { keep; }
# 6 and 7: garbage again
frop $$$$;
# 8: no semicolon
keep
