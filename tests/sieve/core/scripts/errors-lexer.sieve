# 1 to 3: numbers
if size :over 18446744073709551616 { keep; }
if size :over 18014398509481985K { keep; }
if size :over 17179869184G { keep; }
# No error: the largest
if size :over 18446744073709551615 { keep; }
# 4 and 5: names
if this_is_the_name_of_a_test_that_is_far_too_long { keep; }
keep :this_is_the_name_of_a_tag_that_is_far_too_long "x";
# 6: a string without end
redirect "a@example.org;
