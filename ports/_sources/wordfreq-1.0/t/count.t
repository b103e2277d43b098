use strict;
use warnings;
use Test::More tests => 2;
use Text::WordFreq qw(count table);

is_deeply(count("a b A"), {a => 2, b => 1});
is(table({bb => 1, a => 2}), "a  2\nbb 1\n");
