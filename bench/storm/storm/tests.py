"""The figures' own arithmetic. Run by: python -m unittest storm.tests"""

import math
import unittest

from .callers import _is_reply
from .ideal import ideal_waits
from .measures import Ending, Got, Outcome, jain, max_min, quantile
from .storms import STORMS, Call, Scale, Storm, crowd

SCALE = Scale(6)


class Replies(unittest.TestCase):
    def test_a_reply_is_told_in_the_head_or_in_a_comment(self):
        self.assertTrue(_is_reply({"x-surgetank-fallback": "reply"}, ""))
        self.assertTrue(_is_reply({}, ": x-surgetank-attempts: 3; x-surgetank-fallback: reply\n\ndata: [DONE]\n\n"))
        self.assertFalse(_is_reply({}, ": x-surgetank-attempts: 3\n\ndata: x-surgetank-fallback: reply\n\n"))


class Ideal(unittest.TestCase):
    def storm(self, **more) -> Storm:
        return Storm("test", "", {"a": 1}, lasts=1, **more)

    def test_a_burst_gets_the_bucket_and_a_patience_of_refill(self):
        calls = [Call(0.0, "a", False)] * 120
        waits = ideal_waits(self.storm(), calls, SCALE)
        self.assertEqual(len(waits), 10 + 60)
        self.assertAlmostEqual(waits[9], SCALE.answer)
        self.assertAlmostEqual(waits[-1], SCALE.answer + SCALE.patience)

    def test_an_outage_serves_nobody_and_fills_the_bucket(self):
        calls = [Call(1.0, "a", False)] * 11
        waits = ideal_waits(self.storm(outage=(0, 30)), calls, SCALE)
        self.assertAlmostEqual(waits[0], 4 + SCALE.answer)
        self.assertAlmostEqual(waits[10], 4 + SCALE.answer + 1 / 6)

    def test_who_would_wait_too_long_takes_nothing(self):
        calls = [Call(0.0, "a", False), Call(20.0, "a", False)]
        waits = ideal_waits(self.storm(outage=(0, 100)), calls, SCALE)
        self.assertEqual(waits, [SCALE.answer])

    def test_light_load_never_waits(self):
        calls = [Call(index * 1.0, "a", False) for index in range(50)]
        self.assertEqual({round(w, 9) for w in ideal_waits(self.storm(), calls, SCALE)}, {1.0})


class Measures(unittest.TestCase):
    def test_jain(self):
        self.assertAlmostEqual(jain([2, 2, 2]), 1)
        self.assertAlmostEqual(jain([1, 0, 0, 0]), 0.25)
        self.assertEqual(jain([0, 0]), 0)

    def test_max_min_divides_what_others_leave(self):
        self.assertEqual(max_min({"greedy": 100, "a": 2, "b": 10}, 30), {"a": 2, "b": 10, "greedy": 18})
        self.assertEqual(max_min({"a": 9, "b": 9}, 6), {"a": 3, "b": 3})

    def test_waits_of_all_count_those_without_an_answer(self):
        endings = [Ending("a", Got.ANSWER, 1.0), Ending("a", Got.ERROR, 0.1), Ending("b", Got.REPLY, 0.1)]
        outcome = Outcome("x", "y", endings, 4, 2, {"a": 1, "b": 1}, 0, 0)
        self.assertEqual(outcome.wait(0.5, of_all=False), 1.0)
        self.assertEqual(outcome.wait(0.5, of_all=True), math.inf)
        self.assertEqual((outcome.served, outcome.errors, outcome.calls_per_answer), (1, 1, 4))
        self.assertAlmostEqual(outcome.fairness, 0.5)

    def test_nearest_rank(self):
        self.assertEqual([quantile([3, 1, 2, 4], part) for part in (0.25, 0.5, 0.99)], [1, 2, 4])


class Crowd(unittest.TestCase):
    def test_it_is_the_same_each_time_and_complete(self):
        for storm in STORMS.values():
            calls = crowd(storm, SCALE, "1")
            self.assertEqual(calls, crowd(storm, SCALE, "1"))
            self.assertEqual(len(calls), storm.asked)
            self.assertTrue(all(0 <= call.at <= SCALE.real(storm.lasts) for call in calls))


if __name__ == "__main__":
    unittest.main()
