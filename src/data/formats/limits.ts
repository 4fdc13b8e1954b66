// Upper limits for a file of rows, since files come from strangers. Each limit is far above what real files need, and
// low enough that any file ends in an error message, with memory to spare.
export const FORMAT_LIMITS = {
  /** Bytes of one row. Rows of released sets have up to 50 million. */
  row: 2 ** 28,
  /** Bytes of a file that is read as a whole: text, and JSON that is not in lines. */
  whole: 500 * 2 ** 20,
  /** Bytes that are read to recognize a file. */
  head: 1 << 16,
  /** Bytes that each byte of a compressed file may become, beside `freeBytes` in all. Text becomes 3 to 20. */
  expansion: 1000,
  freeBytes: 2 ** 30,
  /** Bytes of a row group or record batch. Real ones have up to 1 GiB. */
  group: 2 ** 31,
  /** Rows of a row group. Real ones have up to a million. */
  groupRows: 2 ** 24,
  /** Bytes, and rows, of a row group that are turned into rows at once. */
  piece: 2 ** 26,
  pieceRows: 2 ** 20,
  /** Files that one name may stand for, and folders that are searched for it. */
  files: 100_000,
} as const;
