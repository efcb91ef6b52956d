"""The datasets that training knows: what they are called, how they are laid out and labelled."""

from __future__ import annotations

from train.data.datasets import Dataset
from train.data.layouts import audio_visual, faces, speech
from train.data.layouts.base import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    SPELLINGS,
    VIDEO_SUFFIXES,
)
from train.data.layouts.ordinary import ordinary
from train.labels import EMOTIONS, FACE_EMOTIONS, FOUR_EMOTIONS


def _spelt(*emotions: str) -> dict[str, str | None]:
    """The folder names that stand for some of the emotions."""
    return {name: emotion for name, emotion in SPELLINGS.items() if emotion in emotions}


_FER2013_CODES = {str(code): SPELLINGS[name] for code, name in enumerate(FACE_EMOTIONS)}
_NO_CALM_DISGUST = ("neutral", "happy", "sad", "angry", "fearful", "surprised")
_NOT_CALM = _spelt(*(emotion for emotion in EMOTIONS if emotion != "calm"))

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "ravdess",
            "RAVDESS",
            "CC BY-NC-SA 4.0; Livingstone & Russo 2018, PLoS ONE 13(5)",
            "Actor_01/03-01-05-01-02-01-01.wav",
            {f"{code:02}": emotion for code, emotion in enumerate(EMOTIONS, 1)},
            audio_visual.ravdess,
            (".wav", ".flac", ".mp4"),
        ),
        Dataset(
            "crema-d",
            "CREMA-D",
            "ODbL 1.0; Cao et al. 2014, IEEE Trans. Affective Computing 5(4)",
            "AudioWAV/1001_DFA_ANG_XX.wav",
            {
                "ANG": "angry",
                "DIS": "disgust",
                "FEA": "fearful",
                "HAP": "happy",
                "NEU": "neutral",
                "SAD": "sad",
            },
            audio_visual.crema_d,
            (".wav", ".flac", ".flv", ".mp4"),  # its mp3 files repeat the wav files
        ),
        Dataset(
            "shemo",
            "ShEMO",
            "academic use; Mohamad Nezami et al. 2019, Language Resources and Evaluation 53",
            "male/M01A01.wav",
            {
                "A": "angry",
                "F": "fearful",
                "H": "happy",
                "N": "neutral",
                "S": "sad",
                "W": "surprised",
            },
            speech.shemo,
            (".wav", ".flac"),
        ),
        Dataset(
            "urdu",
            "URDU",
            "research use only; Latif et al. 2018, FIT",
            "Angry/SM1_F10_A010.wav",
            speech.URDU_LETTERS,
            speech.urdu,
            (".wav", ".flac"),
        ),
        Dataset(
            "saudi",
            "Saudi Dialect Corpus",
            "no licence published; Aljuhani et al. 2021, IEEE Access 9",
            "Angry/any-name.wav",
            _spelt(*FOUR_EMOTIONS),
            speech.saudi,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "fer2013",
            "FER-2013",
            "Kaggle challenge data, research use; Goodfellow et al. 2013",
            "fer2013.csv or train/angry/any-name.png",
            _FER2013_CODES | _NOT_CALM,
            faces.fer2013,
            (".csv", *IMAGE_SUFFIXES),
        ),
        Dataset(
            "ckplus",
            "CK+48",
            "research use only; Lucey et al. 2010, CVPR workshops",
            "anger/S010_004_00000017.png",
            _NOT_CALM | {"contempt": None},
            faces.ckplus,
            IMAGE_SUFFIXES,
        ),
        Dataset(
            "nemo",
            "nEMO",
            "CC BY-NC-SA 4.0; Christop 2024, LREC-COLING",
            "samples/SK1_anger_12.wav",
            _spelt(*_NO_CALM_DISGUST),
            speech.nemo,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "ased",
            "ASED",
            "for research; Retta et al. 2023, Computers, Materials & Continua 74(3)",
            "01Neutral/n1-01-01-01-01.wav",
            speech.ASED_LETTERS,
            speech.ased,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "eyase",
            "EYASE",
            "research use; Abdel-Hamid 2020, Speech Communication 122",
            "Male01/ml01_ang (1).wav",
            {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"},
            speech.eyase,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "emovo",
            "EMOVO",
            "research use; Costantini et al. 2014, LREC",
            "f1/rab-f1-b1.wav",
            {
                "rab": "angry",
                "dis": "disgust",
                "pau": "fearful",
                "gio": "happy",
                "neu": "neutral",
                "tri": "sad",
                "sor": "surprised",
            },
            speech.emovo,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "casia",
            "CASIA",
            "research use; Chinese Academy of Sciences, Institute of Automation",
            "angry/201-angry-wangzhe.wav or wangzhe/angry/201.wav",
            _spelt(*_NO_CALM_DISGUST),
            speech.casia,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "tess",
            "TESS",
            "CC BY-NC-ND 4.0; Pichora-Fuller & Dupuis 2020, doi 10.5683/SP2/E8H2MF",
            "OAF_angry/OAF_back_angry.wav",
            _NOT_CALM | {"ps": "surprised"},
            speech.tess,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "turev",
            "TurEV-DB",
            "CC BY-NC-ND 4.0; Canpolat et al. 2020, SLTU-CCURL",
            "Angry/1234_kz_acaba.wav",
            _spelt("happy", "sad", "angry") | {"calm": "neutral", "neutral": "neutral"},
            speech.turev,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "savee",
            "SAVEE",
            "research use; Haq & Jackson 2009, AVSP",
            "DC/a01.wav or DC_a01.wav",
            {
                "a": "angry",
                "d": "disgust",
                "f": "fearful",
                "h": "happy",
                "n": "neutral",
                "sa": "sad",
                "su": "surprised",
            },
            speech.savee,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "emo-db",
            "Emo-DB",
            "free for research; Burkhardt et al. 2005, Interspeech",
            "wav/03a01Fa.wav",
            {
                "W": "angry",
                "E": "disgust",
                "A": "fearful",
                "F": "happy",
                "N": "neutral",
                "T": "sad",
                "L": None,  # boredom
            },
            speech.emo_db,
            AUDIO_SUFFIXES,
        ),
        Dataset(
            "mead",
            "MEAD",
            "non-commercial research; Wang et al. 2020, ECCV",
            "M003/video/front/angry/level_3/001.mp4",
            _NOT_CALM | {"contempt": None},
            audio_visual.mead,
            (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES),
        ),
        Dataset(
            "jaffe",
            "JAFFE",
            "non-commercial research; Lyons et al. 1998, FG",
            "KA.AN1.39.tiff",
            {
                "AN": "angry",
                "DI": "disgust",
                "FE": "fearful",
                "HA": "happy",
                "NE": "neutral",
                "SA": "sad",
                "SU": "surprised",
            },
            faces.jaffe,
            IMAGE_SUFFIXES,
        ),
        Dataset(
            "ordinary",
            "a folder of people who talk without acting",
            "as SOURCES.tsv beside it tells",
            "speech/some-source/speaker_1.opus",
            {"neutral": "neutral"},
            ordinary,
            (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES),
        ),
        Dataset(
            "own",
            "your own clips",
            "yours",
            "happy/actor_clip.mp4",
            _spelt(*EMOTIONS),
            audio_visual.own,
            (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES),
        ),
    )
}
"""Every dataset by its name."""
