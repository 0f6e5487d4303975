#!/usr/bin/env perl
# Have a peer run a command over a file and print what comes home: a client of rnd's API in Perl, with its library alone.
#
#     filter.pl FILE COMMAND        filter.pl hamlet.txt 'tr a-z A-Z | sort'
#
# It speaks to RND_URL (http://127.0.0.1:30069) with the token RND_TOKEN; Perl's own HTTP::Tiny knows no unix sockets.
use strict;
use warnings;

use File::Spec;
use HTTP::Tiny;
use JSON::PP;

my $url = ($ENV{RND_URL} // 'http://127.0.0.1:30069') =~ s{/$}{}r;
my $http = HTTP::Tiny->new(
    timeout         => 60,
    default_headers => { 'Authorization' => 'Bearer ' . ($ENV{RND_TOKEN} // '') },
);
my $json    = JSON::PP->new->utf8->canonical;
my $last_id = 0;

# Return the body of an answer; HTTP::Tiny says by 599 that there was none.
sub body_of {
    my ($response) = @_;
    return $response->{content} if $response->{status} == 200;
    chomp(my $words = $response->{content});
    die $response->{status} == 599 ? "the peer does not answer: $words\n" : "HTTP $response->{status}: $words\n";
}

# Return the result of a method; die with words where it has none.
sub call {
    my ($method, %params) = @_;
    my $request = $json->encode({ jsonrpc => '2.0', id => ++$last_id, method => $method, params => \%params });
    my $options = { content => $request, headers => { 'Content-Type' => 'application/json' } };
    my $answer  = $json->decode(body_of($http->post("$url/rpc", $options)));
    die in_words($method, $answer->{error}) if $answer->{error};
    return $answer->{result};
}

# Return an error as a person reads it: what is wrong, every problem, and what to do.
sub in_words {
    my ($method, $error) = @_;
    my $data  = $error->{data} // {};
    my @lines = sprintf '%s: %s (%s)', $method, $error->{message}, $data->{error} // $error->{code};
    push @lines, map { "  $_" } grep { $_ ne $error->{message} } map { $_->{message} } @{ $data->{problems} // [] };
    push @lines, "  hint: $data->{hint}" if $data->{hint};
    return join("\n", @lines) . "\n";
}

# Wait for an execution, for as long as it takes; die with words where it has not completed.
sub until_it_has_ended {
    my ($execution) = @_;
    my $state;
    do {
        $state = call('execution.wait', execution_id => $execution, timeout_s => 25);
    } while ($state->{status} =~ /^(PENDING|RUNNING)$/);
    return if $state->{status} eq 'COMPLETED';
    my $words = sprintf "execution %d is %s: %s\n", $execution, $state->{status}, $state->{error} // '';
    for my $job (grep { $_->{status} eq 'ERRORED' } @{ $state->{jobs} }) {
        my $log = call('job.logs', execution_id => $execution, node_id => $job->{node_id}, stream => 'stderr');
        $words .= "  $_\n" for split /\n/, $log->{data};
    }
    die $words;
}

# Write every file that came home to standard output, page after page.
sub write_results {
    my ($execution) = @_;
    for (my $after = 0 ; defined $after ;) {
        my $page = call('execution.results', execution_id => $execution, after_id => $after);
        for my $item (@{ $page->{items} }) {
            utf8::encode(my $path = $item->{path});
            $path =~ s{([^A-Za-z0-9._~/-])}{sprintf '%%%02X', ord $1}ge;
            print body_of($http->get("$url/results/$execution/$item->{node_id}/$item->{connection_id}/$path"));
        }
        $after = $page->{next_after_id};
    }
}

# Offer the file and the command, connect them, and run that. What was made is noted, to be tidied up.
sub run {
    my ($made, $file, $command) = @_;
    my $name = "filter-$$";
    my %text    = (name => "$name-text", service_type => 'DATA', paths => [ File::Spec->rel2abs($file) ]);
    my %program = (name => "$name-program", service_type => 'STANDALONE', executable => '/bin/sh', cmd => [ '-c', $command ]);
    push @{ $made->{services} }, call('service.create', %$_)->{id} for \%text, \%program;
    my $workflow = $made->{workflow} = call('workflow.create', name => $name)->{id};
    my ($source, $sink) =
        map { call('workflow.add_node', workflow_id => $workflow, service_id => $_)->{node_id} } @{ $made->{services} };
    # From the data to the program, and from the program home (null: the peer that runs the workflow).
    for my $ends ([ $source, $sink ], [ $sink, undef ]) {
        call(
            'workflow.add_connection',
            workflow_id         => $workflow,
            from_node_id        => $ends->[0],
            from_interface_type => 'STDOUT',
            to_node_id          => $ends->[1],
            to_interface_type   => 'STDIN',
        );
    }
    my $execution = call('workflow.execute', workflow_id => $workflow)->{execution_id};
    until_it_has_ended($execution);
    write_results($execution);
    return;
}

if (@ARGV != 2) {
    print STDERR "usage: filter.pl FILE COMMAND\n";
    exit 2;
}
utf8::decode($_) for @ARGV;
binmode STDERR, ':encoding(UTF-8)';
my $made  = { services => [] };
my $ended = eval { run($made, @ARGV); 1 };
print STDERR "filter.pl: $@" unless $ended;
my $tidied = eval {
    call('workflow.delete', workflow_id => $made->{workflow}) if defined $made->{workflow};
    call('service.delete', service_id => $_) for @{ $made->{services} };
    1;
};
print STDERR "filter.pl: $@" unless $tidied;
exit($ended && $tidied ? 0 : 1);
