/**
 * Layouts of images that mke2fs 1.47.0 made with `-E lazy_itable_init=1,lazy_journal_init=1`.
 *
 *     = size, options
 *     block size, blocks, first data block, blocks and clusters per group, groups, inodes per
 *     group, inodes
 *     descriptor blocks, reserved ones, blocks for root, free blocks and inodes, overhead,
 *     feature words
 *     group: block bitmap, inode bitmap, inode table, free blocks (clusters), flags
 */
const TEXT = `
= 1M -t ext2
1024 1024 1 8192 8192 1 128 128
1 3 51 970 117 40 38 2 3
0: 6 7 8 970 0
= 2M -t ext4
1024 2048 1 8192 8192 1 256 256
1 15 102 926 245 1108 3c 2c2 46b
0: 18 34 50 926 0
= 8M -t ext4
1024 8192 1 8192 8192 1 2048 2048
1 63 409 6574 2037 1604 3c 2c2 46b
0: 66 82 98 6574 0
= 8M -t ext2 -r 0
1024 8192 1 8192 8192 1 2048 2048
1 0 409 7918 2037 261 0 0 0
0: 3 4 5 7918 0
= 100M -t ext2
1024 102400 1 8192 8192 13 1968 25584
1 256 5120 94415 25573 7971 38 2 3
0: 259 260 261 7426 0
1: 8451 8452 8453 7440 0
2: 16385 16386 16387 7698 0
12: 98305 98306 98307 3601 0
= 100M -t ext3
1024 102400 1 8192 8192 13 1968 25584
1 256 5120 90302 25573 12067 3c 2 3
0: 259 260 261 3313 0
1: 8451 8452 8453 7440 0
2: 16385 16386 16387 7698 0
12: 98305 98306 98307 3601 0
= 100M -t ext4
1024 102400 1 8192 8192 13 1968 25584
1 256 5120 90319 25573 12067 3c 2c2 46b
0: 259 272 285 1498 0
1: 260 273 777 7934 3
2: 261 274 1269 8192 3
12: 271 284 6189 4095 1
= 600M -t ext4
4096 153600 0 32768 32768 5 7680 38400
1 74 7680 146860 38389 6734 3c 2c2 46b
0: 76 81 86 30276 0
1: 77 82 566 32692 3
2: 78 83 1046 28672 1
4: 80 85 2006 22528 1
= 5G -t ext4
4096 1310720 0 32768 32768 40 8192 327680
1 639 65536 1268642 327669 42072 3c 2c2 46b
0: 641 657 673 23897 0
1: 642 658 1185 32127 3
2: 643 659 1697 32768 3
15: 656 672 8353 32768 3
16: 524288 524304 524320 24544 1
17: 524289 524305 524832 16384 1
39: 1048583 1048591 1052176 32768 1
= 40G -t ext4
4096 10485760 0 32768 32768 320 8192 2621440
5 1024 524288 10243378 2621429 242376 3c 2c2 46b
0: 1030 1046 1062 23508 0
1: 1031 1047 1574 31738 3
2: 1032 1048 2086 32768 3
15: 1045 1061 8742 32768 3
16: 524288 524304 524320 24544 1
17: 524289 524305 524832 32768 3
319: 9961487 9961503 9969184 32768 1
= 1T -t ext4
4096 268435456 0 32768 32768 8192 8192 67108864
128 1024 13421772 263940710 67108853 4494739 3c 2c2 46b
0: 1153 1169 1185 23385 0
1: 1154 1170 1697 31615 3
2: 1155 1171 2209 32768 3
15: 1168 1184 8865 32768 3
16: 524288 524304 524320 24544 1
17: 524289 524305 524832 32768 3
8191: 267911183 267911199 267918880 32768 1
= 5T -t ext4
4096 1342177280 0 32768 32768 40960 4096 167772160
640 1024 67108864 1331310819 167772149 10866454 3c 2c2 46b
0: 1665 1681 1697 26969 0
1: 1666 1682 1953 31103 3
2: 1667 1683 2209 32768 3
15: 1680 1696 5537 32768 3
16: 524288 524304 524320 28640 1
17: 524289 524305 524576 32768 3
40959: 1341653007 1341653023 1341656864 32768 1
= 260M -t ext3 -b 2048
2048 133120 0 16384 16384 9 7400 66600
1 129 6656 120007 66589 13094 3c 2 3
0: 131 132 133 11211 0
1: 16515 16516 16517 15326 0
2: 32768 32769 32770 15457 0
8: 131072 131073 131074 1121 0
= 1G -t ext4 -b 1024
1024 1048576 1 8192 8192 128 512 65536
8 256 52428 1012622 65525 35940 3c 2c2 46b
0: 266 282 298 5833 0
1: 267 283 426 7927 3
2: 268 284 554 8192 3
15: 281 297 2218 8192 3
16: 131073 131089 131105 6112 1
17: 131074 131090 131233 8192 3
127: 917520 917536 919457 8191 1
= 128M -t ext4 -b 65536
65536 2048 0 65528 65528 1 2048 2048
1 0 102 1008 2037 1036 3c 2c2 46b
0: 2 18 34 1008 0
= 1G -t ext4 -O ^flex_bg
4096 262144 0 32768 32768 8 8192 65536
1 127 13107 249189 65525 12949 3c c2 46b
0: 129 130 131 32119 0
1: 32897 32898 32899 32125 3
2: 65536 65537 65538 32254 3
7: 229505 229506 229507 32125 1
= 130M -t ext4 -b 4096 -O ^flex_bg
4096 33280 0 32168 32168 2 16640 33280
1 16 1608 27058 33269 6216 3c c2 46b
0: 18 19 20 27006 0
1: 32186 32187 32188 52 1
= 5G -t ext4 -O meta_bg,^resize_inode
4096 1310720 0 32768 32768 40 8192 327680
1 0 65536 1273761 327669 36954 2c 2d2 46b
0: 2 18 34 24537 0
1: 3 19 546 32766 3
2: 4 20 1058 32768 3
15: 17 33 7714 32768 3
16: 524288 524304 524320 24544 1
17: 524289 524305 524832 16384 1
39: 1048583 1048591 1052176 32768 1
= 64M -t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit
1024 65536 1 8192 8192 8 2048 16384
1 0 3276 57307 16373 8216 2c 252 46b
0: 3 11 19 4065 0
1: 4 12 531 8190 3
2: 5 13 1043 4096 1
7: 10 18 3603 8190 1
= 1G -t ext4 -b 1024 -O meta_bg,^resize_inode
1024 1048576 1 8192 8192 128 512 65536
8 0 52428 1015503 65525 33060 2c 2d2 46b
0: 3 19 35 6097 0
1: 4 20 163 8190 3
2: 5 21 291 8192 3
15: 18 34 1955 8191 3
16: 131074 131090 131106 6111 1
17: 131075 131091 131234 8191 3
127: 917521 917537 919458 8190 1
= 1G -t ext4 -b 4096 -O sparse_super2
4096 262144 0 32768 32768 8 8192 65536
1 127 13107 249447 65525 12691 23c 2c2 46b
0: 129 137 145 28521 0
1: 130 138 657 32639 3
2: 131 139 1169 32768 3
7: 136 144 3729 32639 1
= 1G -t ext4 -O bigalloc
4096 262144 0 524288 32768 1 16384 16384
1 7 13107 252832 16373 579 3c 2c2 66b
0: 9 25 41 15802 0
= 1G -t ext4 -O bigalloc -C 16384
4096 262144 0 131072 32768 2 32768 65536
1 31 13107 249768 65525 3091 3c 2c2 66b
0: 33 35 37 31731 0
1: 34 36 2085 30711 1
= 64M -t ext4 -b 1024 -O bigalloc
1024 65536 0 131072 8192 1 4096 4096
1 31 3276 60288 4085 325 3c 2c2 66b
0: 34 50 66 3768 0
= 1G -t ext4 -T largefile
4096 262144 0 32768 32768 8 128 1024
1 127 13107 253221 1013 8917 3c 2c2 46b
0: 129 137 145 32553 0
1: 130 138 153 32639 3
2: 131 139 161 32768 3
7: 136 144 201 32639 1
`;

/** What one image has; free counts of a group are clusters. */
export interface Layout {
  readonly sizeText: string;
  readonly args: readonly string[];
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly groupCount: number;
  readonly inodesPerGroup: number;
  readonly inodeCount: number;
  readonly descriptorBlockCount: number;
  readonly reservedGdtBlocks: number;
  readonly reservedBlockCount: number;
  readonly freeBlockCount: number;
  readonly freeInodeCount: number;
  readonly overhead: number;
  readonly features: {
    readonly compat: number;
    readonly incompat: number;
    readonly roCompat: number;
  };
  readonly groups: readonly GroupLayout[];
}

export interface GroupLayout {
  readonly group: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeClusterCount: number;
  readonly flags: number;
}

function numbersOf(line: string): number[] {
  return line.split(/[: ]+/).map(Number);
}

function parseGroup(line: string): GroupLayout {
  const [group, blockBitmap, inodeBitmap, inodeTable, freeClusterCount, flags] = numbersOf(line);
  return {
    group: group!,
    blockBitmap: blockBitmap!,
    inodeBitmap: inodeBitmap!,
    inodeTable: inodeTable!,
    freeClusterCount: freeClusterCount!,
    flags: flags!,
  };
}

function parseLayout(text: string): Layout {
  const [title = "", first = "", second = "", ...groups] = text.trim().split("\n");
  const [sizeText = "", ...args] = title.split(" ");
  const shape = numbersOf(first);
  const counts = numbersOf(second);
  const [compat, incompat, roCompat] = second
    .split(" ")
    .slice(-3)
    .map((word) => Number.parseInt(word, 16));
  return {
    sizeText,
    args,
    blockBytes: shape[0]!,
    blockCount: shape[1]!,
    firstDataBlock: shape[2]!,
    blocksPerGroup: shape[3]!,
    clustersPerGroup: shape[4]!,
    groupCount: shape[5]!,
    inodesPerGroup: shape[6]!,
    inodeCount: shape[7]!,
    descriptorBlockCount: counts[0]!,
    reservedGdtBlocks: counts[1]!,
    reservedBlockCount: counts[2]!,
    freeBlockCount: counts[3]!,
    freeInodeCount: counts[4]!,
    overhead: counts[5]!,
    features: { compat: compat!, incompat: incompat!, roCompat: roCompat! },
    groups: groups.map(parseGroup),
  };
}

/** Complete layouts, from 1 MiB to 5 TiB. */
export const LAYOUTS: readonly Layout[] = TEXT.split("\n= ").slice(1).map(parseLayout);
