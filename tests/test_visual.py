"""The figures that need no model: what they count, what they show, and what they refuse."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from icre.datasets.protocol import find
from icre.evaluation.ranking_lists import pick_queries, ranking_lists
from icre.evaluation.score import score
from icre.modality import INFRARED, VISIBLE
from icre.plots.curves import cmc, draw_cmc, draw_sweep, draw_training
from icre.plots.distances import EDGES, draw_distances, pair_distances
from icre.plots.embedding import choose_images, draw_embedding, embed
from icre.plots.ranking import RIGHT, WRONG, draw_rankings
from icre.plots.style import COLOURS, check_format, figure_bytes, new_figure, save_figure
from icre.utils.errors import UserError
from small_features import from_paths, small_features

NAME, DRAW = "sysu-all-single", "seeded"


@pytest.fixture(scope="module")
def features():
    return small_features("sysu", identities=5).ordered()


@pytest.fixture(scope="module")
def root(features, tmp_path_factory):
    """A picture for every path."""
    folder = tmp_path_factory.mktemp("images")
    for path in features.paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), "gray").save(folder / path)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "jpg", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes_without_a_date(suffix, tmp_path):
    for name in ("a", "b"):
        figure = new_figure(2, 1)
        figure.add_subplot().plot([1, 2], label="line")
        save_figure(figure, tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"CreationDate" not in first and b"dc:date" not in first


def test_a_figure_has_its_width_in_the_file(tmp_path):
    save_figure(new_figure(3.3, 2), tmp_path / "a.png", dpi=100)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (330, 200)


def test_unknown_formats_are_refused():
    with pytest.raises(UserError, match=r"--out a.gif: .* \.png, \.jpg, \.pdf, \.svg"):
        check_format("a.gif")


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_are_eight_and_none_is_lost_on_white():
    assert len(set(COLOURS)) == 8
    assert max(map(luminance, COLOURS)) < 190


def hits_by_hand(features, one) -> list[bool]:
    return [features.pids[row] == features.pids[one.query] for row in one.found]


def test_average_precision_of_a_list_is_that_of_its_hits(features):
    for one in ranking_lists(features, NAME, DRAW, queries=20, top=10**6):
        found, values = 0, []
        for place, hit in enumerate(hits_by_hand(features, one), start=1):
            found += hit
            values += [found / place] if hit else []
        assert one.ap == pytest.approx(np.mean(values))


def test_the_worst_are_the_lowest_one_of_a_person(features):
    every = ranking_lists(features, NAME, DRAW, queries=10**6)
    worst = ranking_lists(features, NAME, DRAW, queries=3, pick="worst")
    lowest = {}
    for one in every:
        pid = features.pids[one.query]
        lowest[pid] = min(lowest.get(pid, 1.0), one.ap)
    assert [one.ap for one in worst] == pytest.approx(sorted(lowest.values())[:3])
    assert len({features.pids[one.query] for one in worst}) == 3


def test_people_share_the_rows_and_stand_in_the_order_asked_for(features):
    lists = ranking_lists(features, NAME, DRAW, queries=4, pick=[4, 2])
    assert features.pids[[one.query for one in lists]].tolist() == [4, 4, 2, 2]


def test_random_queries_follow_the_seed():
    pids, ap = np.arange(50), np.zeros(50)
    first = pick_queries(pids, ap, "random", 5, seed=1).tolist()
    assert first == pick_queries(pids, ap, "random", 5, seed=1).tolist() == sorted(set(first))
    assert first != pick_queries(pids, ap, "random", 5, seed=2).tolist()
    assert len(pick_queries(pids, ap, "random", 99)) == 50


@pytest.mark.parametrize(
    ("pick", "count", "said"),
    [
        ([99], 3, "identity 99 .*: 1, 2, 3"),
        ("best", 3, "--pick best: .*even, random, worst"),
        ("even", 0, "--queries 0"),
        ([], 3, "no identity is picked"),
    ],
)
def test_impossible_choices_of_queries_are_refused(pick, count, said):
    with pytest.raises(UserError, match=said):
        pick_queries(np.array([1, 2, 3]), np.zeros(3), pick, count)


def test_a_ranking_picture_frames_each_image_by_its_person(features, root):
    lists = ranking_lists(features, NAME, DRAW, queries=3, top=4)
    figure = draw_rankings(features, lists, root, "title", width=5)
    axes = figure.axes[0]
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(frames) == len(axes.images) == sum(1 + len(one.found) for one in lists)
    wanted = [
        look[0]
        for one in lists
        for look in [("#000000",), *((RIGHT if right else WRONG) for right in one.right)]
    ]
    assert [to_hex(frame.get_edgecolor()).upper() for frame in frames] == wanted
    texts = [text.get_text() for text in axes.texts]
    cameras = [
        f"{RIGHT[2] if right else WRONG[2]} c{features.camids[row]}"
        for one in lists
        for row, right in zip(one.found, one.right)
    ]
    assert [text[1:] for text in texts if text[:1].isdigit()] == cameras
    with pytest.raises(UserError, match="the selection is empty"):
        draw_rankings(features, [], root)


@pytest.mark.parametrize("name", ["../private.jpg", "ABSOLUTE", "cam1/../../private.jpg", "out/x"])
def test_a_picture_shows_no_image_outside_its_root(features, root, name):
    lists = ranking_lists(features, NAME, DRAW, queries=1, top=2)
    private = root.parent / "private.jpg"
    Image.new("RGB", (4, 8)).save(private)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to(root.parent)
    name = {"ABSOLUTE": str(private), "out/x": "out/private.jpg"}.get(name, name)
    paths = features.paths.astype(object)
    paths[lists[0].found[0]] = name
    sent = dataclasses.replace(features)
    object.__setattr__(sent, "paths", paths.astype(str))  # no layout is asked for here
    with pytest.raises(UserError, match="path") as caught:
        draw_rankings(sent, lists, root)
    assert name in str(caught.value)
    if name == "out/private.jpg":  # an image of the data set's own
        draw_rankings(sent, lists, root, known={str(root / name)})


NAMES = ("$x^2$ $\\frac{1$", "a$b\\c_{", "_run", "\x1b[31mred\n\x07", "\udcff", "{} %s %", "100 %")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_names_are_text_in_figures(suffix):
    scalars = {name: {f"loss_{name}": ([0, 1], [1.0, 2.0])} for name in NAMES}
    figure = draw_training(scalars)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.strip() for label in labels] == [name.strip() for name in NAMES]
    points = {name: [(1.0, 2.0, 0.1)] for name in ("Rank-1", "mAP")}
    for one in (figure, draw_sweep(NAMES[0], points, NAMES[1])):
        assert len(figure_bytes(one, suffix, 50)) > 1000
    shown = "".join(text.get_text() for text in figure.findobj(Text))
    assert "\\x1b[31mred" in shown and "\x1b" not in shown and NAMES[0] in shown


def test_distances_are_those_of_a_loop(features):
    intra, inter = [], []
    for row in range(len(features)):
        for other in range(len(features)):
            if (features.modalities[row], features.modalities[other]) == (VISIBLE, INFRARED):
                a, b = features.features[row], features.features[other]
                value = 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
                (intra if features.pids[row] == features.pids[other] else inter).append(value)
    found = pair_distances(features)
    assert found.intra.sum() == len(intra) and found.inter.sum() == len(inter)
    assert found.intra_mean == pytest.approx(np.mean(intra), abs=1e-6)
    assert found.inter_mean == pytest.approx(np.mean(inter), abs=1e-6)
    # rounding may move a value over the edge of a bin
    assert np.abs(found.inter - np.histogram(inter, EDGES)[0]).sum() <= 2
    assert 0 <= found.overlap <= 1


def test_a_distance_figure_shows_means_and_areas_of_one(features):
    found = pair_distances(features)
    figure = draw_distances({"a": found, "b": found})
    assert figure.get_size_inches()[0] == pytest.approx(3.3)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines] == [found.intra_mean, found.inter_mean]
        for patch in axes.patches:
            values, edges, _ = patch.get_data()
            assert float(np.sum(values * np.diff(edges))) == pytest.approx(1)


def test_one_modality_has_no_distances(features):
    with pytest.raises(UserError, match="0 infrared images"):
        pair_distances(features.take(features.modalities == VISIBLE))


def test_an_embeddings_images_do_not_depend_on_order_or_features(features):
    shuffled = features.take(np.random.default_rng(0).permutation(len(features)))
    other = dataclasses.replace(shuffled, features=shuffled.features + 1)
    first, second = (choose_images(data, 3, 4, seed=1) for data in (features, other))
    assert first.paths.tolist() == second.paths.tolist()
    assert len(set(first.pids)) == 3
    for pid in set(first.pids):
        assert {VISIBLE, INFRARED} == set(first.modalities[first.pids == pid].tolist())
        assert (first.pids == pid).sum() <= 8


@pytest.mark.parametrize(
    ("identities", "images", "said"),
    [
        ([99], 5, "identity 99"),
        (50, 5, "50 identities .* 5 "),
        (2, 0, "--images 0"),
        ([1], 1, "2 images"),
    ],
)
def test_impossible_embeddings_are_refused(features, identities, images, said):
    with pytest.raises(UserError, match=said):
        choose_images(features, identities, images)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_places_are_repeatable_and_keep_clusters_apart(method):
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, 16), 12, axis=0)
    unit = centres + 0.01 * generator.normal(size=centres.shape)
    places = embed(unit, method)
    assert places == pytest.approx(embed(unit, method))
    own = np.linalg.norm(places[:12] - places[:12].mean(0), axis=1).max()
    assert np.linalg.norm(places[:12].mean(0) - places[12:].mean(0)) > 2 * own


def test_an_embedding_has_a_shape_per_modality_and_a_number_per_person():
    places = np.arange(16.0).reshape(8, 2)
    pids, modalities = np.repeat([3, 7], 4), np.tile([VISIBLE, INFRARED], 4)
    figure = draw_embedding({"a": places, "b": places}, pids, modalities)
    assert len(figure.axes) == 2
    groups = [group.get_offsets().data.tolist() for group in figure.axes[0].collections]
    wanted = [
        places[(pids == pid) & (modalities == one)].tolist()
        for pid in (3, 7)
        for one in (VISIBLE, INFRARED)
    ]
    assert groups == wanted
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "7"]


@pytest.mark.parametrize(("name", "layout"), [(NAME, "sysu"), ("regdb-v2t", "regdb")])
def test_a_cmc_curve_goes_through_the_records_ranks(name, layout):
    data = small_features(layout)
    record = score(data, [name])[0]
    found = cmc(data, name)
    for rank in (1, 5, 10, 20):
        assert found.mean[rank - 1] == pytest.approx(record[f"Rank-{rank}"]["mean"])
        if find(name).draws:
            assert found.std[rank - 1] == pytest.approx(record[f"Rank-{rank}"]["std"])
    assert (np.diff(found.mean) >= 0).all() and (found.std is None) == (not find(name).draws)


def test_cmc_figures_compare_one_setting_only(features):
    found = cmc(features, NAME, DRAW)
    axes = draw_cmc({"a": found, "b": found}).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx(found.mean)
    assert axes.get_title(loc="left") == "sysu-all-single, seeded draw, 10 trials"
    with pytest.raises(UserError, match="sysu-indoor-single"):
        draw_cmc({"a": found, "b": cmc(features, "sysu-indoor-single", DRAW)})
    with pytest.raises(UserError, match=r"9 models: .* 8"):
        draw_cmc({str(number): found for number in range(9)})


SCALARS = {
    "total_loss": ([0], [3.0]),
    "loss_cls": ([0], [2.0]),
    "lr": ([5], [0.1]),
    "sysu-all-single/official/Rank-1": ([5], [4.0]),
    "sysu-all-single/official/mAP": ([5], [5.0]),
    "sysu-all-multi/official/Rank-1": ([5], [9.0]),
    "sysu-all-multi/official/mAP": ([5], [9.0]),
}


def test_training_panels_show_losses_and_the_first_protocol():
    figure = draw_training({"run": SCALARS})
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == [
        "total_loss",
        "loss_cls",
        "lr",
        "Rank-1, % (sysu-all-single/official)",
        "mAP, % (sysu-all-single/official)",
    ]
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 3]]
    with pytest.raises(UserError, match=r"llcm-v2n.*: sysu-all-single"):
        draw_training({"run": SCALARS}, "llcm-v2n")
    other = draw_training({"run": SCALARS}, "sysu-all-multi")
    assert "mAP, % (sysu-all-multi/official)" in [one.get_title(loc="left") for one in other.axes]
    with pytest.raises(UserError, match="nothing to draw"):
        draw_training({"run": {"time": ([0], [1.0])}})


def test_a_sweep_is_drawn_by_value():
    points = {"Rank-1": [(1.0, 50, 1), (0.1, 40, 2)], "mAP": [(0.1, 30, 0), (1.0, 35, 0)]}
    axes = draw_sweep("MODEL.X", points, "sysu-all-single, official draw").axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 40], [1.0, 50]]
    assert axes.get_xlabel() == "X"


def test_a_list_without_a_match_is_no_list():
    paths = [f"cam1/000{pid}/0001.jpg" for pid in (1, 2)] + ["cam6/0003/0001.jpg"]
    with pytest.raises(UserError, match="no query has a match"):
        ranking_lists(from_paths(paths).ordered(), NAME, DRAW)
