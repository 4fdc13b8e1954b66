// What a file of rows may cost at most: files come from strangers. Each limit is far above what real files need, and low
// enough that whatever a file holds ends in a sentence, with memory to spare.
export const FORMAT_LIMITS = {
  /** Bytes of one row. The longest of released sets have 50 million. */
  row: 2 ** 28,
  /** Bytes of a file that is read as a whole: JSON that is no lines, and text. */
  whole: 500 * 2 ** 20,
  /** Bytes looked at to find out what a file is. */
  head: 1 << 16,
  /** Bytes that a compressed file may become, for each of its own, beside `freeBytes`. Text becomes 3 to 20. */
  expansion: 1000,
  freeBytes: 2 ** 30,
  /** Bytes of what a table keeps together: a row group, a record batch. Real ones have up to 1 GiB. */
  group: 2 ** 31,
  /** Rows of a row group. Real ones have up to a million. */
  groupRows: 2 ** 24,
  /** Bytes, and rows, of a row group that are made into rows at once. */
  piece: 2 ** 26,
  pieceRows: 2 ** 20,
  /** Files that one name may stand for, and folders looked through. */
  files: 100_000,
} as const;
