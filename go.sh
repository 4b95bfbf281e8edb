cd /tmp/x/fsdp; export PYTHONPATH=/tmp/w/fsdp:/tmp/w/fsdp/plugins OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false; . /tmp/v/main/bin/activate
nice -n 5 python -m torch.distributed.run --standalone --nproc_per_node 2 "$@"
