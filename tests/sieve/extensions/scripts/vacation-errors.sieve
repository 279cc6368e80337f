require ["vacation", "vacation-seconds"];
vacation;
vacation :days "3" "x";
vacation :days 3 :seconds 4 "x";
vacation :from "bad" "x";
vacation :from "a@b.c, d@e.f" "x";
vacation :subject ["a"] "x";
vacation :mime "x" "y";
vacation :nonsense "x";
