package sagemaker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
)

const compressionNone = "NONE"

// uploadOutputs sends what the hosts left in /opt/ml/model and
// /opt/ml/output/data, and returns S3ModelArtifacts. Without a file in it the
// output is not sent; the model always is.
func (r *run) uploadOutputs(ctx context.Context) (model string, err error) {
	out := &r.req.OutputDataConfig
	bucket, prefix, err := parseS3URI(out.S3OutputPath)
	if err != nil {
		return "", err
	}
	prefix = strings.TrimPrefix(path.Join("/", prefix, r.j.Name, "output"), "/")
	store := r.s.opts.Objects(r.req.RoleArn)
	var models, outputs []string
	for _, h := range r.hosts {
		models = append(models, h.ml("model"))
		outputs = append(outputs, h.ml("output/data"))
	}
	if out.CompressionType == compressionNone {
		if err := putTrees(ctx, store, models, bucket, prefix+"/model/"); err != nil {
			return "", uploadError(bucket, err)
		}
		if err := putTrees(ctx, store, outputs, bucket, prefix+"/data/"); err != nil {
			return "", uploadError(bucket, err)
		}
		return fmt.Sprintf("s3://%s/%s/model/", bucket, prefix), nil
	}
	if err := putArchive(ctx, store, models, bucket, prefix+"/model.tar.gz"); err != nil {
		return "", uploadError(bucket, err)
	}
	if slices.ContainsFunc(outputs, func(dir string) bool { return !isEmpty(dir) }) {
		if err := putArchive(ctx, store, outputs, bucket, prefix+"/output.tar.gz"); err != nil {
			return "", uploadError(bucket, err)
		}
	}
	return fmt.Sprintf("s3://%s/%s/model.tar.gz", bucket, prefix), nil
}

func uploadError(bucket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("insufficient permissions to write to bucket %s", bucket)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the bucket %s does not exist", bucket)
	}
	return err
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// putArchive streams one archive of the merged directories.
func putArchive(ctx context.Context, store Objects, dirs []string, bucket, key string) error {
	r, w := io.Pipe()
	go func() {
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err == nil {
			archive := tar.NewWriter(zip)
			err = errors.Join(addTrees(archive, dirs), archive.Close(), zip.Close())
		}
		w.CloseWithError(err) // nil: end of file
	}()
	err := store.Put(ctx, bucket, key, r)
	r.CloseWithError(errors.New("upload ended")) // ends the packing if Put did not read it all
	return err
}

// addTrees adds the directories' contents; where two hold the same file, the
// first does.
func addTrees(archive *tar.Writer, dirs []string) error {
	seen := map[string]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || p == dir {
				return err
			}
			rel, err := filepath.Rel(dir, p)
			if err != nil || seen[rel] {
				return err
			}
			seen[rel] = true
			return addFile(archive, p, filepath.ToSlash(rel), d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func addFile(archive *tar.Writer, file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	case !info.IsDir() && !info.Mode().IsRegular():
		return nil // sockets and pipes are no results
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname = name, "", ""
	if info.IsDir() {
		header.Name += "/"
	}
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(archive, f)
	return err
}

// putTrees sends the directories' files one by one; links are not followed.
func putTrees(ctx context.Context, store Objects, dirs []string, bucket, prefix string) error {
	for _, dir := range slices.Backward(dirs) { // the first has the last word
		files, err := scanFiles(dir)
		if err != nil {
			return err
		}
		for name := range files {
			if err := putFile(ctx, store, dir, name, bucket, prefix+name); err != nil {
				return err
			}
		}
	}
	return nil
}
