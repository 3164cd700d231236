"""Runs a module of Eclipse's interoperability suites as it is, against a port, and says how each
test ended.

usage: suite.py FOLDER MODULE PORT [TEST...]
"""

import importlib, sys, unittest

folder, module, port, *only = sys.argv[1:]
sys.path.insert(0, folder)
suite = importlib.import_module(module)
# What its command line and its own main set, with the prefix that it means to use.
suite.host, suite.port, suite.topic_prefix = "localhost", int(port), module + "/"
suite.topics = [module + "/" + one for one in ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")]
suite.wildtopics = [
    module + "/" + one for one in ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")
]
suite.nosubscribe_topics = ("test/nosubscribe",)
suite.setData = lambda: None
# Who takes away what earlier tests retained calls itself "clean retained": no name of ours has a space.
named = suite.mqtt_client.Client
suite.mqtt_client.Client = lambda name: named(b"cleaner" if name == b"clean retained" else name)


class Result(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        print("passed", test._testMethodName, flush=True)

    def addFailure(self, test, why):
        super().addFailure(test, why)
        print("failed", test._testMethodName, str(why[1]).splitlines()[-1], flush=True)

    def addError(self, test, why):
        super().addError(test, why)
        print("failed", getattr(test, "_testMethodName", test), repr(why[1]), flush=True)


names = ["Test." + one for one in only] or ["Test"]
tests = unittest.defaultTestLoader.loadTestsFromNames(names, suite)
unittest.TextTestRunner(resultclass=Result, verbosity=0).run(tests)
