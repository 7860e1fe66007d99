"""`python -m lampwork doctor` finds a healthy machine here, and says what is missing elsewhere."""

import subprocess
import sys

from lampwork.doctor import Health, examine


def test_doctor_is_well() -> None:
    report = examine()
    assert report.healthy, report
    what = {f.what: f for f in report.findings}
    assert what["capture"].health is Health.OK and what["cpu"].health is Health.OK


def test_doctor_command() -> None:
    done = subprocess.run([sys.executable, "-m", "lampwork", "doctor"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lampwork-capture" in done.stdout
