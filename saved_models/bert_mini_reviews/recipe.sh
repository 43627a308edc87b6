#!/usr/bin/env bash
# Makes bert_mini_reviews anew in the folder WORK: a vocabulary, examples, pretraining, float16.
# It takes hours on two processor cores. Stopped or killed, it goes on when it is started again.
#
#   REVIEWS="aclImdb/train/unsup/*.txt aclImdb/train/pos/*.txt aclImdb/train/neg/*.txt" \
#   TEST="aclImdb/test/pos/*.txt aclImdb/test/neg/*.txt" \
#   BOOKS="gutenberg/*.txt" SENTENCES="wiki_split/*.tsv" saved_models/bert_mini_reviews/recipe.sh WORK
#
# Any text that `keras-bert prepare` reads will do for REVIEWS, TEST and BOOKS, such as reviews.jsonl.gz.
set -euo pipefail
set -o noglob # keras-bert reads patterns itself: 75,000 names are too many for a command line
config=$(cd "$(dirname "$0")" && pwd)/config.json
work=$1
first=${FIRST:-128:10000:64,512:800:32}
second=${SECOND:-512:6000:32}
mkdir -p "$work"

excluded=()
for pattern in $TEST; do excluded+=(--exclude "$pattern"); done

if [ ! -e "$work/vocab.txt" ]; then
    keras-bert vocab $REVIEWS $BOOKS --size 12000 --limit-alphabet 120 --output "$work/vocab.txt"
fi
if [ ! -e "$work/sentences.txt" ]; then # two sentences of one article, a blank line, the next two
    (set +o noglob && gzip -cdf $SENTENCES) |
        awk -F '\t' '{ sub(/ <::::> /, "\n", $2); print $2 "\n" }' >"$work/sentences.part"
    mv "$work/sentences.part" "$work/sentences.txt"
fi

prepare() { # NAME LENGTH DUPLICATES, then texts and options
    local output=$work/$1-$2
    [ -e "$output" ] || keras-bert prepare "${@:4}" --vocabulary "$work/vocab.txt" --output "$output" \
        --sequence-length "$2" --duplicates "$3"
}
for sizes in "128 3" "512 2"; do
    prepare reviews $sizes $REVIEWS --document file "${excluded[@]}"
    prepare books $sizes $BOOKS --document file --validation-share 0
done
prepare sentences 128 3 "$work/sentences.txt"

run() { # OUTPUT STAGES RATE SEED, then examples and options
    [ -e "$work/$1" ] || keras-bert pretrain "${@:5}" --output "$work/$1" --stages "$2" --learning-rate "$3" \
        --seed "$4" --warmup 0.04 --dropout 0 --precision mixed_bfloat16
}
run first "$first" 1e-3 0 "$work"/{reviews-128,books-128,sentences-128,reviews-512,books-512} \
    --model "$config" --vocabulary "$work/vocab.txt"
run second "$second" 7e-4 1 "$work"/{reviews-512,books-512} --model "$work/first"

result=$work/bert_mini_reviews
[ -e "$result" ] ||
    keras-bert convert "$work/second" "$result" --format huggingface --dtype float16 --tolerance 0.05
for name in first second; do
    for file in pretraining.json history.json curves.png; do cp "$work/$name/$file" "$result/$name-$file"; done
done
