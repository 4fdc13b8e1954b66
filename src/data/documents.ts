// Documents: token ids, with a mark at those that are trained. They lie in memory or in a file (prepared/documents-file.ts);
// who makes batches of them, or a fingerprint, does not know which. How rows become documents is in make-documents.ts.

export interface Document {
  tokens: Int32Array;
  /** 1: the loss is taken where this token is the one predicted. The first is never predicted: 0. */
  trained: Uint8Array;
  /** The row it comes from. */
  place: string;
}

export interface Documents {
  readonly length: number;
  /** Tokens of a document, without reading it. */
  lengthOf(index: number): number;
  /** The caller owns what is read from a file, and must not change what is in memory. */
  document(index: number): Document;
  /** Taken when a file was written, so that nobody need read it for them. */
  readonly facts?: DocumentFacts;
  /** Closes the file. */
  close(): void;
}

export interface DocumentFacts {
  fingerprint: RowsFingerprint;
  largestToken: number;
}

/** Digests of documents; fingerprint.ts takes and compares them. */
export interface RowsFingerprint {
  documents: number;
  tokens: number;
  /** Of all documents in their order. */
  digest: string;
  /** Eight digits for each of at most `MOST_PARTS` runs of documents; they tell where a difference begins. */
  parts: string;
}

export const inMemory = (documents: readonly Document[]): Documents => ({
  length: documents.length,
  lengthOf: (index) => documents[index].tokens.length,
  document: (index) => documents[index],
  close: () => {},
});

/** All of them, one after the other. */
export function* eachDocument(documents: Documents): Generator<Document> {
  for (let i = 0; i < documents.length; i++) yield documents.document(i);
}
