import java.io.*;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.MessageDigest;
import org.apache.jackrabbit.oak.plugins.blob.datastore.DataStoreBlobStore;
import org.apache.jackrabbit.oak.plugins.blob.datastore.OakFileDataStore;
import org.apache.jackrabbit.oak.segment.*;
import org.apache.jackrabbit.oak.segment.file.*;
import org.apache.jackrabbit.oak.spi.blob.*;

/** Real Oak's blob stores, and segment stores that use them; beside Peer, which it calls. */
public class BlobPeer {
    static BlobStore open(String kind, String dir) throws Exception {
        if (kind.equals("blocks")) {
            FileBlobStore found = new FileBlobStore(dir);
            if (Integer.getInteger("peer.blockSize") != null) {
                found.setBlockSizeMin(Integer.getInteger("peer.blockSizeMin", 48));
                found.setBlockSize(Integer.getInteger("peer.blockSize"));
            }
            return found;
        }
        OakFileDataStore found = new OakFileDataStore();
        found.setPath(dir);
        found.setMinRecordLength(Integer.getInteger("peer.minRecordLength", 4096));
        found.init(dir);
        return new DataStoreBlobStore(found);
    }

    static FileStoreBuilder builder(String store, String kind, String blobs) throws Exception {
        return FileStoreBuilder.fileStoreBuilder(new File(store)).withBlobStore(open(kind, blobs));
    }

    static String hex(byte[] bytes) {
        StringBuilder found = new StringBuilder();
        for (byte b : bytes) found.append(String.format("%02x", b));
        return found.toString();
    }

    public static void main(String[] a) throws Exception {
        String kind = a[1], blobs = a[2];
        switch (a[0]) {
            case "put": { // put KIND BLOBS FILE... : stores files, prints their ids
                BlobStore store = open(kind, blobs);
                for (int i = 3; i < a.length; i++)
                    try (InputStream in = Files.newInputStream(Paths.get(a[i]))) { System.out.println("id=" + store.writeBlob(in)); }
                break;
            }
            case "get": { // get KIND BLOBS ID... : reads binaries, prints length and digest
                BlobStore store = open(kind, blobs);
                for (int i = 3; i < a.length; i++) {
                    MessageDigest digest = MessageDigest.getInstance("SHA-256");
                    long length = 0;
                    byte[] buffer = new byte[65536];
                    try (InputStream in = store.getInputStream(a[i])) {
                        for (int n; (n = in.read(buffer)) > 0; length += n) digest.update(buffer, 0, n);
                    }
                    System.out.println("told=" + store.getBlobLength(a[i]) + " length=" + length + " sha256=" + hex(digest.digest()));
                }
                break;
            }
            case "create": { // create KIND BLOBS STORE NODES KIB : as Peer create
                try (FileStore fs = builder(a[3], kind, blobs).build()) {
                    SegmentNodeStore ns = SegmentNodeStoreBuilders.builder(fs).build();
                    Peer.write(ns, Integer.parseInt(a[4]), Integer.parseInt(a[5]), 500, 0, false);
                    if (Boolean.getBoolean("peer.checkpoint")) System.out.println("checkpoint=" + ns.checkpoint(1000L * 3600 * 24 * 365));
                    Peer.report(fs, a[3]);
                }
                break;
            }
            case "walk": { // walk KIND BLOBS STORE : as Peer walk
                try (ReadOnlyFileStore fs = builder(a[3], kind, blobs).buildReadOnly()) {
                    MessageDigest digest = MessageDigest.getInstance("SHA-256");
                    Peer.walk(fs.getHead(), digest);
                    System.out.printf("head=%s%nnodes=%d props=%d blobbytes=%d%nsha256=%s%n", fs.getHead().getRecordId(), Peer.nNodes, Peer.nProps, Peer.nBlobBytes, hex(digest.digest()));
                }
                break;
            }
            default: System.err.println("unknown command"); System.exit(2);
        }
    }
}
