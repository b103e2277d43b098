package Text::WordFreq;

use strict;
use warnings;
use List::Util qw(max);
use Exporter 'import';

our $VERSION = '1.0';
our @EXPORT_OK = qw(count table);

sub count {
    my ($text) = @_;
    my %seen;
    $seen{lc $1}++ while $text =~ /(\w+)/g;
    return \%seen;
}

sub table {
    my ($seen) = @_;
    my $width = max 0, map { length } keys %$seen;
    return join '', map { sprintf "%-*s %d\n", $width, $_, $seen->{$_} }
        sort { $seen->{$b} <=> $seen->{$a} || $a cmp $b } keys %$seen;
}

1;

__END__

=head1 NAME

Text::WordFreq - how often each word of a text occurs

=head1 SYNOPSIS

    print Text::WordFreq::table(Text::WordFreq::count($text));

=cut
