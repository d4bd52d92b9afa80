"""`python -m bench NAME [--quick] [--json]`: measure one claim; the last line printed is one JSON object."""

import argparse
import importlib
import json
import os

#: One program per claim, each a module here with `run(quick) -> figures` and its claim as docstring.
NAMES = ("start", "queue", "lifecycle", "cancel", "files", "api", "sse", "batch", "chat", "router", "gateway")


def main() -> None:
    """Run the named program, or `all` of them one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs, not to quote")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON")
    options = parser.parse_args()
    figures: dict[str, dict[str, object]] = {}
    for name in NAMES if options.name == "all" else (options.name,):
        program = importlib.import_module(f"bench.{name}")
        if not options.json:
            print(f"{name}: {program.__doc__}")
        load = os.getloadavg()[0]
        figures[name] = program.run(quick=options.quick) | {"load_before": round(load, 2), "cores": os.cpu_count()}
        if not options.json:
            for key, value in figures[name].items():
                print(f"  {key}: {value}")
    print(json.dumps(figures if options.name == "all" else figures[options.name]))


if __name__ == "__main__":
    main()
