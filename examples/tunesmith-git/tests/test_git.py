"""A repository made on the spot, with what histories really hold: merges, binaries, odd bytes, empty messages."""

import subprocess

import pytest
import tunesmith

from tunesmith_git import Commit, GitHistory


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")

    def git(*words):
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    (folder / "poem.txt").write_text("roses\n")
    git("add", ".")
    git("commit", "-m", "Begin a poem\n\nIt is about roses.")
    (folder / "sub").mkdir()
    (folder / "sub" / "caf\u00e9.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    git("add", ".")
    git("commit", "-m", "Go for coffee")
    (folder / "image.bin").write_bytes(bytes(range(256)))
    git("add", ".")
    git("commit", "--allow-empty-message", "-m", "")
    git("switch", "-q", "-c", "other", "HEAD~2")
    (folder / "other.txt").write_text("violets\n")
    git("add", ".")
    git("commit", "-m", "Plant violets")
    git("switch", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "Merge", "other")
    (folder / ".gitattributes").write_text("*.txt diff=evil\n")
    git("config", "diff.evil.textconv", "touch ran; cat")
    git("config", "color.ui", "always")
    return folder


def rows(repository, **settings):
    return list(GitHistory(path=str(repository), **settings).rows())


def test_commits_come_oldest_first_without_merges_and_people(repository):
    found = rows(repository)
    assert [row.data["subject"] for row in found][0] == "Begin a poem"
    assert {row.data["subject"] for row in found} == {"Begin a poem", "Go for coffee", "", "Plant violets"}
    assert set(found[0].data) == {"commit", "subject", "body", "diff"}
    assert found[0].data["body"] == "It is about roses."
    assert found[0].data["diff"].splitlines()[-1] == "+roses"
    assert "Ada" not in str([row.data for row in found]) and "\x1b" not in str(found)
    assert [row.line for row in found] == [1, 2, 3, 4] and found[0].file == f"{repository.name} (git)"


def test_files_in_other_encodings_are_read_and_no_program_is_run(repository):
    (coffee,) = (row for row in rows(repository) if row.data["subject"] == "Go for coffee")
    assert "b/sub/caf\u00e9.txt" in coffee.data["diff"] and "+caf\ufffd" in coffee.data["diff"]
    assert not list(repository.glob("ran"))


def test_part_of_the_history(repository):
    assert [row.data["subject"] for row in rows(repository, within="sub")] == ["Go for coffee"]
    assert [row.data["subject"] for row in rows(repository, revisions="main..other")] == []
    assert len(rows(repository, max_commits=2)) == 2
    assert [row.data["subject"] for row in rows(repository, revisions="other")] == ["Begin a poem", "Plant violets"]


def test_fingerprint_follows_the_commits(repository):
    assert GitHistory(path=str(repository)).fingerprint() == GitHistory(path=f"{repository}/sub/..").fingerprint()
    different = [{"max_commits": 1}, {"within": "sub"}, {"revisions": "other"}]
    assert len({GitHistory(path=str(repository), **s).fingerprint() for s in [{}, *different]}) == 4


def test_word_is_claimed():
    assert GitHistory.claims("git:") == {"path": "."} and GitHistory.claims("git:~/a b") == {"path": "~/a b"}
    assert GitHistory.claims("github") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "nowhere"}, "there is no folder nowhere"),
        ({"revisions": "no-such-branch"}, "git rev-list failed"),
        ({"revisions": "--output=ran"}, "git rev-list failed"),
    ],
)
def test_what_is_wrong_is_said(repository, monkeypatch, settings, said):
    monkeypatch.chdir(repository)
    with pytest.raises(tunesmith.ConfigError, match=said):
        list(GitHistory(**settings).rows())
    assert not list(repository.glob("ran"))


def test_folder_that_is_no_repository(tmp_path):
    with pytest.raises(tunesmith.ConfigError) as caught:
        list(GitHistory(path=str(tmp_path)).rows())
    assert "not a git repository" in str(caught.value.why)


def test_commit_becomes_a_question_and_its_answer(repository):
    first = Commit()(rows(repository)[0].data)
    asked, said = first.messages
    assert asked["content"].startswith("Write a commit message for this change.\n\ndiff --git a/poem.txt")
    assert said == {"role": "assistant", "content": "Begin a poem\n\nIt is about roses."}
    short = Commit(subject_only=True, question="Why?")(rows(repository)[0].data)
    assert short.messages[1]["content"] == "Begin a poem" and short.messages[0]["content"].startswith("Why?\n\n")


def test_what_is_skipped_and_what_is_wrong():
    row = {"subject": "a", "diff": "+b"}
    for nothing in ({"subject": ""}, {"diff": ""}, {"diff": "+" * 20_001}):
        assert Commit()({**row, **nothing}) is None
    for column in ("subject", "diff", "body"):
        with pytest.raises(tunesmith.BadField, match="should be text, not int"):
            Commit()({**row, column: 3})
    with pytest.raises(tunesmith.BadField, match="is missing"):
        Commit()({**row, "subject": None})
    assert Commit()({**row, "body": None}).messages[1]["content"] == "a"
