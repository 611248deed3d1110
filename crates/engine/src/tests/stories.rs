//! What a run is to do, told as scripts; read the snapshots.

use super::script::play;

macro_rules! stories {
    ($($name:ident: $script:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(play($script)) });
        })*
    };
}

stories! {
    a_held_run_starts_nothing_and_goes_on_once_released: "
        a
        b: needs a
        c: retries 1
        ---
        0
        1 a started; c started
        2 hold
        3 a ended well; c ended transient
        10
        11 restore
        12 release
        13 b ended well; c ended well";

    a_diamond_runs_its_middle_at_once: "
        top
        left: needs top
        right: needs top
        bottom: needs left, needs right
        ---
        0
        1 top started
        2 top ended well
        3 left started; right started
        4 right ended well
        5 left ended well
        6 bottom started; bottom ended well
        7 cancel";

    a_false_condition_skips_those_that_need_the_result: "
        a: when
        b: needs a
        c: needs b
        d: after a
        ---
        0
        1 a when false
        2 a when true
        3 d ended well";

    a_failure_skips_all_that_follow_and_names_its_root: "
        a
        b: needs a
        c: needs b
        d: after b
        e
        ---
        0
        1 a ended permanent
        2 e ended well";

    a_condition_that_cannot_be_evaluated_fails_its_task: "
        a
        b: needs a, when
        c: needs b
        ---
        0 b when true
        1 a ended well
        2
        3 restore
        4 b when broken";

    handlers_run_when_something_they_need_failed: "
        a
        b
        on_a: after a, onfailure
        on_b: after b, onfailure
        anyway: after a, always
        after_handler: after on_b
        summary: always
        alarm: onfailure
        ---
        0
        1 a ended permanent
        2 b ended well
        3 on_a ended well; anyway ended well; after_handler ended well
        4 summary ended well; alarm ended well";

    without_a_failure_handlers_are_skipped: "
        a
        alarm: onfailure
        after_alarm: needs alarm
        always: always
        after_always: needs always
        ---
        0
        1 a ended well
        2 always ended well
        3 after_always ended well";

    a_handler_without_a_result_it_needs_is_skipped: "
        a: when
        b: needs a, always
        ---
        0
        1 a when false";

    transient_failures_back_off_until_the_retries_are_spent: "
        a: retries 2
        ---
        0
        1 a started
        2 a ended transient
        3 a#1 ended transient
        7
        8 a ended transient
        18
        19 a ended transient";

    infrastructure_failures_have_a_budget_of_their_own: "
        a: retries 1
        ---
        0
        10 a ended infrastructure
        20
        30 a ended infrastructure
        40
        50 a ended infrastructure
        60
        70 a ended infrastructure
        80
        90 a ended infrastructure
        110
        120 a ended transient
        130
        140 a ended infrastructure";

    a_busy_lock_costs_nothing: "
        a
        ---
        0
        1 a ended busy
        2
        3 a ended busy
        5
        6 a ended well";

    a_timeout_stops_the_attempt_and_counts_as_transient: "
        a: retries 1, timeout 10
        ---
        0
        1 a started
        10
        11
        12
        13 a ended permanent
        18
        19 a started
        29
        30 a ended infrastructure";

    an_attempt_that_commits_while_it_is_stopped_has_won: "
        a: timeout 10
        ---
        0
        1 a started
        11
        12 a ended well";

    the_committed_result_of_an_earlier_attempt_wins: "
        a
        ---
        0
        1 a ended infrastructure
        2
        3 a#2 started
        4 a#1 ended well
        5 a#2 ended transient";

    a_failure_stops_the_rest: "
        max 3, on failure stop
        a
        running
        backing_off: retries 5
        waiting: needs running
        no_place
        cleanup: after running, always
        notice_running: after running, onfailure
        notice_waiting: after waiting, onfailure
        alarm: onfailure
        ---
        0
        1 running started
        2 backing_off ended transient
        3 a ended permanent
        4 running ended transient
        5 no_place ended well; cleanup ended permanent
        6 alarm ended well; notice_running ended well; notice_waiting ended well";

    a_cancelled_run_starts_nothing_more: "
        a
        b
        asked: when
        waiting: needs a, when
        cleanup: always
        ---
        0
        1 a started; b started
        2 cancel
        3 cancel; asked when true
        4 a ended well
        5 b ended infrastructure
        6 cancel";

    cancelling_outranks_a_timeout: "
        a: timeout 10, retries 3
        ---
        0 a started
        1 a started
        11
        12 cancel
        13 restore
        14 a ended transient";

    two_writers_of_one_file_wait_for_each_other: "
        a: lock file
        b: lock file
        c: lock other
        ---
        0
        1 a ended transient
        2 b ended well; c ended well";

    an_exclusive_waiter_is_not_passed_by_later_shared_ones: "
        first: share file
        gate
        writer: needs gate, lock file
        late_reader: needs gate, share file
        unrelated: needs gate
        ---
        0
        1 gate ended well
        2 first ended well
        3 writer ended well";

    an_earlier_reader_passes_a_waiting_writer: "
        gate
        reader: needs gate, share file
        holder: share file
        writer: lock file
        ---
        0
        1 gate ended well
        2 holder ended well
        3 reader ended well";

    a_waiter_for_two_locks_keeps_its_turn_at_both: "
        holder: lock x
        both: lock x, lock y
        y: lock y
        ---
        0
        1 holder ended well
        2 both ended well";

    a_writer_does_not_pass_an_earlier_reader_that_waits_for_something_else: "
        holder: lock x
        reader: lock x, share file
        writer: lock file
        ---
        0
        1 holder ended well
        2 reader ended well";

    a_reader_goes_on_though_one_before_it_waits_for_something_else: "
        writer: lock file
        holder: lock x
        earlier: share file, lock x
        later: share file
        ---
        0
        1 writer ended well
        2 later ended well; holder ended well";

    a_retry_gives_its_lock_and_its_place_away: "
        max 1
        a: retries 1, lock file
        b: lock file
        ---
        0
        1 a ended transient
        6
        7 b ended well";

    free_places_go_by_position_then_item: "
        max 2
        a: items 3
        b
        ---
        0
        1 a[1] ended well
        2 a[2] ended well; a[0] ended well
        3 b ended well";

    one_failed_item_fails_its_task_once_all_have_ended: "
        a: items 2
        b: needs a
        ---
        0
        1 a[0] ended permanent
        2 a[1] ended well";

    a_restored_run_asks_again_for_all_that_is_under_way: "
        starting
        running
        stopping: timeout 5
        asked: when
        waiting: needs running
        ---
        0
        1 running started; stopping started
        6
        7 restore
        8";

    news_of_unknown_things_is_ignored: "
        a
        ---
        0 nobody ended well; a[1] ended well; a#0 started; a#9 started; nobody when true; a when true; a ended transient
        1 a#1 started; a#1 started; a#2 ended permanent";
}
